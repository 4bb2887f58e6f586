"""Interface to the operating system: signals, timers, standard streams, forked and orphaned processes, process exit."""
