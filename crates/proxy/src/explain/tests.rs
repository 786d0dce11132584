//! What explaining says, and that it changes nothing.
