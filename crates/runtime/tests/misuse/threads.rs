use heapkeeper::Heap;

fn main() {
    let heap = Heap::new();
    let handle = heap.alloc(1u8);
    std::thread::spawn(move || drop(handle));
    std::thread::scope(|scope| {
        scope.spawn(|| heap.stats());
    });
}
