"""Events and the child's output."""
