//! An interpreter of s-expressions whose every value lives on the heap: numbers, pairs, closures, environments.
//!
//! ```text
//! cargo run -p heapkeeper --example lisp                 a demonstration
//! cargo run -p heapkeeper --example lisp -- FILE.lisp    a program
//! ```
//! What to look at: the types hold `Gc`s and derive `Trace`, and that is all they do about memory. `letrec` binds a closure in
//! the environment that the closure holds: a cycle, which only the collector frees. Everything else goes when the last
//! handle does.
#![allow(missing_docs, reason = "the names of a language's parts say what they are")]

use std::cell::RefCell;
use std::collections::HashMap;

use heapkeeper::{Gc, Generation, Heap, Trace};

pub type Ref = Gc<Value>;
pub type Answer = Result<Ref, String>;

/// A value of the language; programs are values too.
#[derive(Trace)]
pub enum Value {
    Nil,
    Bool(bool),
    Number(i64),
    Symbol(String),
    /// `set-car!` and `set-cdr!` can close a circle.
    Pair(RefCell<Ref>, RefCell<Ref>),
    Builtin(&'static str, #[trace(skip)] fn(&Interpreter, &[Ref]) -> Answer),
    Closure {
        parameters: Vec<Ref>,
        body: Ref,
        scope: Gc<Scope>,
    },
}

/// Variables, and where to look for others.
#[derive(Trace)]
pub struct Scope {
    variables: RefCell<Vec<(Ref, Ref)>>,
    outer: Option<Gc<Scope>>,
}

impl Scope {
    fn find<T>(&self, name: &Ref, found: impl FnOnce(&mut Ref) -> T) -> Option<T> {
        // Names are interned: one object each.
        if let Some((_, value)) = self.variables.borrow_mut().iter_mut().find(|(other, _)| Gc::ptr_eq(other, name)) {
            return Some(found(value));
        }
        self.outer.as_ref()?.find(name, found)
    }

    fn bind(&self, name: Ref, value: Ref) {
        self.variables.borrow_mut().push((name, value));
    }
}

pub struct Interpreter {
    heap: Heap,
    names: RefCell<HashMap<String, Ref>>,
    nil: Ref,
    global: Gc<Scope>,
}

impl Interpreter {
    pub fn new(heap: &Heap) -> Interpreter {
        let interpreter = Interpreter {
            heap: heap.clone(),
            names: RefCell::default(),
            nil: heap.alloc(Value::Nil),
            global: heap.alloc(Scope { variables: RefCell::default(), outer: None }),
        };
        for (name, function) in BUILTINS {
            interpreter.global.bind(interpreter.symbol(name), heap.alloc(Value::Builtin(name, *function)));
        }
        interpreter
    }

    /// The value of the last expression of a program.
    ///
    /// # Errors
    /// What is wrong with the program.
    pub fn run(&self, program: &str) -> Answer {
        let text = program.lines().map(|line| line.split(';').next().unwrap_or("")).collect::<Vec<_>>().join("\n");
        let text = text.replace('(', " ( ").replace(')', " ) ").replace('\'', " ' ");
        let mut words = text.split_whitespace();
        let mut last = self.nil.clone();
        while let Some(word) = words.next() {
            last = self.eval(self.read(word, &mut words)?, self.global.clone())?;
        }
        Ok(last)
    }

    fn read<'a>(&self, word: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Answer {
        Ok(match word {
            "(" => {
                let mut items = Vec::new();
                loop {
                    match words.next().ok_or("a ( without its )")? {
                        ")" => break self.list(items),
                        word => items.push(self.read(word, words)?),
                    }
                }
            }
            ")" => return Err("a ) without its (".into()),
            "'" => {
                let quoted = self.read(words.next().ok_or("nothing to quote")?, words)?;
                self.list(vec![self.symbol("quote"), quoted])
            }
            "#t" | "#f" => self.heap.alloc(Value::Bool(word == "#t")),
            _ => word.parse().map_or_else(|_| self.symbol(word), |number| self.heap.alloc(Value::Number(number))),
        })
    }

    fn symbol(&self, name: &str) -> Ref {
        let mut names = self.names.borrow_mut();
        names.entry(name.into()).or_insert_with(|| self.heap.alloc(Value::Symbol(name.into()))).clone()
    }

    fn pair(&self, car: Ref, cdr: Ref) -> Ref {
        self.heap.alloc(Value::Pair(RefCell::new(car), RefCell::new(cdr)))
    }

    fn list(&self, items: Vec<Ref>) -> Ref {
        items.into_iter().rev().fold(self.nil.clone(), |rest, item| self.pair(item, rest))
    }

    /// The value of an expression. What stands in tail position is the next turn of the loop, so that loops need no stack.
    fn eval(&self, mut expression: Ref, mut scope: Gc<Scope>) -> Answer {
        loop {
            let form = match &*expression {
                Value::Symbol(name) => {
                    return scope.find(&expression, |value| value.clone()).ok_or(format!("{name} is not bound"));
                }
                Value::Pair(..) => items(&expression)?,
                _ => return Ok(expression),
            };
            let name = if let Value::Symbol(name) = &*form[0] { name.as_str() } else { "" };
            expression = match (name, &form[1..]) {
                ("quote", [value]) => return Ok(value.clone()),
                ("if", [test, yes, no]) => {
                    let test = self.eval(test.clone(), scope.clone())?;
                    if matches!(*test, Value::Bool(false)) { no.clone() } else { yes.clone() }
                }
                ("define", [name, value]) => {
                    let value = self.eval(value.clone(), scope.clone())?;
                    scope.bind(name.clone(), value);
                    return Ok(self.nil.clone());
                }
                ("set!", [name, value]) => {
                    let value = self.eval(value.clone(), scope.clone())?;
                    // The old value goes when the borrow is over: dropping it may run anything.
                    let old = scope.find(name, |place| std::mem::replace(place, value));
                    return old.map(|_| self.nil.clone()).ok_or("set! of what is not bound".into());
                }
                ("lambda", [parameters, body]) => {
                    let parameters = items(parameters)?;
                    return Ok(self.heap.alloc(Value::Closure { parameters, body: body.clone(), scope }));
                }
                (kind @ ("let" | "letrec"), [bindings, body]) => {
                    let outer = Some(scope.clone());
                    let inner = self.heap.alloc(Scope { variables: RefCell::default(), outer });
                    for binding in items(bindings)? {
                        let [name, value] = &items(&binding)?[..] else { return Err("(name value), please".into()) };
                        let sees = if kind == "let" { &scope } else { &inner };
                        let value = self.eval(value.clone(), sees.clone())?;
                        inner.bind(name.clone(), value);
                    }
                    scope = inner;
                    body.clone()
                }
                ("begin", [first @ .., last]) => {
                    for expression in first {
                        self.eval(expression.clone(), scope.clone())?;
                    }
                    last.clone()
                }
                (_, arguments) => {
                    let function = self.eval(form[0].clone(), scope.clone())?;
                    let arguments: Result<Vec<Ref>, String> =
                        arguments.iter().map(|argument| self.eval(argument.clone(), scope.clone())).collect();
                    match &*function {
                        Value::Builtin(_, call) => return call(self, &arguments?),
                        Value::Closure { parameters, body, scope: captured } => {
                            let arguments = arguments?;
                            if parameters.len() != arguments.len() {
                                return Err(format!("{} arguments for {}", arguments.len(), parameters.len()));
                            }
                            let variables = parameters.iter().cloned().zip(arguments).collect::<Vec<_>>();
                            let outer = Some(captured.clone());
                            scope = self.heap.alloc(Scope { variables: RefCell::new(variables), outer });
                            body.clone()
                        }
                        _ => return Err(format!("{} is no function", show(&function))),
                    }
                }
            };
        }
    }
}

/// The items of a proper list.
fn items(list: &Ref) -> Result<Vec<Ref>, String> {
    let (mut items, mut rest) = (Vec::new(), list.clone());
    loop {
        rest = match &*rest {
            Value::Nil => return Ok(items),
            Value::Pair(car, cdr) => {
                items.push(car.borrow().clone());
                cdr.borrow().clone()
            }
            _ => return Err(format!("{} is no list", show(list))),
        };
    }
}

/// A value as it would be written.
pub fn show(value: &Ref) -> String {
    match &**value {
        Value::Nil => "()".into(),
        Value::Bool(value) => if *value { "#t" } else { "#f" }.into(),
        Value::Number(value) => value.to_string(),
        Value::Symbol(name) => name.clone(),
        Value::Builtin(name, _) => format!("<{name}>"),
        Value::Closure { .. } => "<closure>".into(),
        Value::Pair(car, cdr) => match items(value) {
            Ok(items) => format!("({})", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Err(_) => format!("({} . {})", show(&car.borrow()), show(&cdr.borrow())),
        },
    }
}

fn number(value: &Ref) -> Result<i64, String> {
    if let Value::Number(number) = **value { Ok(number) } else { Err(format!("{} is no number", show(value))) }
}

type Builtin = fn(&Interpreter, &[Ref]) -> Answer;

fn arithmetic(interpreter: &Interpreter, arguments: &[Ref], step: fn(i64, i64) -> Option<i64>) -> Answer {
    let numbers = arguments.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let (first, rest) = numbers.split_first().ok_or("no arguments")?;
    let result = rest.iter().try_fold(*first, |sum, next| step(sum, *next)).ok_or("a number too large")?;
    Ok(interpreter.heap.alloc(Value::Number(result)))
}

fn car_and_cdr(arguments: &[Ref]) -> Result<(&RefCell<Ref>, &RefCell<Ref>), String> {
    match arguments.first().map(|value| &**value) {
        Some(Value::Pair(car, cdr)) => Ok((car, cdr)),
        _ => Err("a pair, please".into()),
    }
}

fn store(interpreter: &Interpreter, place: &RefCell<Ref>, value: Option<&Ref>) -> Answer {
    let old = place.replace(value.ok_or("nothing to store")?.clone());
    drop(old); // after the borrow
    Ok(interpreter.nil.clone())
}

const BUILTINS: &[(&str, Builtin)] = &[
    ("+", |lisp, arguments| arithmetic(lisp, arguments, i64::checked_add)),
    ("-", |lisp, arguments| arithmetic(lisp, arguments, i64::checked_sub)),
    ("*", |lisp, arguments| arithmetic(lisp, arguments, i64::checked_mul)),
    ("<", |lisp, arguments| match arguments {
        [left, right] => Ok(lisp.heap.alloc(Value::Bool(number(left)? < number(right)?))),
        _ => Err("two numbers, please".into()),
    }),
    ("list", |lisp, arguments| Ok(lisp.list(arguments.to_vec()))),
    ("null?", |lisp, arguments| {
        Ok(lisp.heap.alloc(Value::Bool(matches!(arguments, [v] if matches!(**v, Value::Nil)))))
    }),
    ("cons", |lisp, arguments| match arguments {
        [car, cdr] => Ok(lisp.pair(car.clone(), cdr.clone())),
        _ => Err("two values, please".into()),
    }),
    ("car", |_, arguments| Ok(car_and_cdr(arguments)?.0.borrow().clone())),
    ("cdr", |_, arguments| Ok(car_and_cdr(arguments)?.1.borrow().clone())),
    ("set-car!", |lisp, arguments| store(lisp, car_and_cdr(arguments)?.0, arguments.get(1))),
    ("set-cdr!", |lisp, arguments| store(lisp, car_and_cdr(arguments)?.1, arguments.get(1))),
];

pub const DEMONSTRATION: &str = "
    (define count-down (lambda (n)
        (letrec ((even? (lambda (n) (if (< n 1) #t (odd? (- n 1)))))      ; two closures in a scope that they hold
                 (odd?  (lambda (n) (if (< n 1) #f (even? (- n 1))))))
            (even? n))))
    (define ring (lambda (n)
        (let ((pair (cons n '())))
            (begin (set-cdr! pair pair) (car pair)))))                    ; a pair that holds itself
    (define repeat (lambda (n) (if (< n 1) 'done (begin (count-down 10) (ring n) (repeat (- n 1))))))
    (repeat 10000)
";

fn main() -> Result<(), String> {
    let heap = Heap::new();
    let interpreter = Interpreter::new(&heap);
    match std::env::args().nth(1) {
        Some(file) => {
            let program = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
            println!("{}", show(&interpreter.run(&program)?));
        }
        None => println!("{}", show(&interpreter.run(DEMONSTRATION)?)),
    }
    let stats = heap.stats();
    let automatic: u64 = stats.collections.generations.iter().map(|generation| generation.collections).sum();
    println!("{} objects are left after {automatic} automatic collections;", stats.objects);
    println!("{} of them were garbage in cycles.", heap.collect(Generation::Old).collected);
    Ok(())
}
