use heapkeeper::trace_dyn;

trait Shape {}
trace_dyn!(dyn Shape);

fn main() {}
