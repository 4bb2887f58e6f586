"""The memory map that the processes of a worker share with their supervisor."""
