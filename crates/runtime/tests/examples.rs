//! The examples, as programs that embed the heap: what they say, and that nothing of theirs is left.

mod support;

#[allow(dead_code, reason = "main is not called")]
#[path = "../examples/document.rs"]
mod document;
#[allow(dead_code, reason = "main is not called")]
#[path = "../examples/lisp.rs"]
mod lisp;

use document::Document;
use heapkeeper::{Generation, Heap};
use lisp::{DEMONSTRATION, Interpreter, show};
use support::on_heap;

#[track_caller]
fn says(interpreter: &Interpreter, program: &str, expected: &str) {
    let answer = match interpreter.run(program) {
        Ok(value) => show(&value),
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(answer, expected, "{program}");
}

#[test]
fn lisp_computes() {
    on_heap(|heap| {
        let lisp = Interpreter::new(heap);
        for (program, expected) in [
            ("(+ 1 2 (* 3 4))", "15"),
            ("'(a (b . c) 1)", "(a (b . c) 1)"),
            ("(let ((x 2) (y 3)) (list x y (- x y)))", "(2 3 -1)"),
            ("(define add (lambda (n) (lambda (m) (+ n m)))) ((add 3) 4)", "7"),
            ("(define n 1) (define next (lambda () (begin (set! n (+ n 1)) n))) (next) (next)", "3"),
            ("(letrec ((fact (lambda (n) (if (< n 2) 1 (* n (fact (- n 1))))))) (fact 20))", "2432902008176640000"),
            ("(define loop (lambda (n) (if (< n 1) 'end (loop (- n 1))))) (loop 100000)", "end"),
            ("(define p (cons 1 2)) (set-car! p p) (null? (cdr p))", "#f"),
            ("(if (null? '()) 'empty 'full)", "empty"),
            ("(car '())", "error: a pair, please"),
            ("(unknown 1)", "error: unknown is not bound"),
            ("(1 2)", "error: 1 is no function"),
            ("((lambda (x) x))", "error: 0 arguments for 1"),
            ("(+ 1 'a)", "error: a is no number"),
            ("(* 4611686018427387904 2)", "error: a number too large"),
            ("(+ 1", "error: a ( without its )"),
            (")", "error: a ) without its ("),
        ] {
            says(&lisp, program, expected);
        }
    });
}

#[test]
fn lisp_leaves_cycles_to_the_collector() {
    on_heap(|heap| {
        let lisp = Interpreter::new(heap);
        says(&lisp, DEMONSTRATION, "done");
        // Each call: a scope with two closures, and a pair that holds itself.
        let outcome = heap.collect(Generation::Old);
        assert!(outcome.collected >= 4 * 10_000, "{outcome:?}");
        let before = heap.stats().objects;
        says(&lisp, "(repeat 100)", "done");
        assert!(heap.stats().objects >= before + 400);
        heap.collect(Generation::Old);
        assert!(heap.stats().objects < before + 40);
    });
}

#[test]
fn lisp_stays_small_with_automatic_collections() {
    let heap = Heap::new();
    let lisp = Interpreter::new(&heap);
    says(&lisp, DEMONSTRATION, "done");
    let objects = heap.stats().objects;
    assert!(objects < 20_000, "{objects} objects");
}

#[test]
fn lisp_without_memory_is_an_error_of_the_heap() {
    let heap = Heap::builder().limit(8 << 20).build().unwrap();
    let lisp = Interpreter::new(&heap);
    let grow = "(define grow (lambda (list) (grow (cons 1 list)))) (grow '())";
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lisp.run(grow).is_ok()));
    assert!(result.is_err());
    says(&lisp, "(+ 1 2)", "3");
}

#[test]
fn document_forgets_what_its_history_forgets() {
    on_heap(|heap| {
        let mut document = Document::new(heap, "book", 2);
        let root = document.root().clone();
        let chapter = document.insert(&root, "one");
        let section = document.insert(&chapter, "deep");
        document.bookmark("mark", &section);
        document.bookmark("root", &root);
        assert_eq!(section.path(), "book / one / deep");
        drop(section);

        document.remove(&chapter);
        drop(chapter);
        assert_eq!(root.outline(0), "book\n");
        heap.collect(Generation::Old);
        assert_eq!(document.bookmarks()[0], ("mark".into(), "one / deep".into()));
        assert!(document.undo());
        assert_eq!(root.outline(0), "book\n  one\n    deep\n");
        assert_eq!(document.bookmarks()[0].1, "book / one / deep");

        let chapter = root_child(&document);
        document.remove(&chapter);
        drop(chapter);
        let before = heap.stats().objects;
        document.write(&root, "volume");
        document.write(&root, "library");
        assert_eq!(heap.stats().objects, before, "parent and child hold each other");
        assert_eq!(heap.collect(Generation::Old).collected, 2);
        assert_eq!(document.bookmarks(), [("root".into(), "library".into())]);
        assert!(document.undo() && document.undo() && !document.undo());
        assert_eq!(root.outline(0), "book\n");
    });
}

fn root_child(document: &Document) -> heapkeeper::Gc<document::Node> {
    document.root().child(0).expect("a chapter")
}
