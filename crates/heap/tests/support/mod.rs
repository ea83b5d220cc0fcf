//! What the generated programs of `tests/` and the fuzz target of `fuzz/` share: operations, the model they are run
//! against, and the observer that checks what it is shown.

pub mod model;
pub mod observer;
pub mod program;
