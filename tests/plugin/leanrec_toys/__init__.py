"""One thing of each kind that leanrec lets other packages add, each in a file or folder of its own."""
