"""What a process shares with the operating system: signals, timers, standard streams, forks, orphans."""
