"""Programs that need a process of their own; the tests start them."""
