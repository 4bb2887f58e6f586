"""Where tasks run: main thread, thread pool or event loop; and the watchdog that interrupts them."""
