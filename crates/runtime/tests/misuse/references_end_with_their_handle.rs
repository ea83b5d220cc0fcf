use heapkeeper::{Gc, Heap};

fn main() {
    let heap = Heap::new();
    let handle = heap.alloc(String::from("text"));
    let text: &str = &handle;
    drop(handle);
    println!("{text}");

    let handle = heap.alloc(1);
    *handle += 1;
    let number = Gc::try_get(&heap.alloc(2)).unwrap();
    println!("{number}");
}
