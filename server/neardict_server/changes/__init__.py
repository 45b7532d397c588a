"""Who is watching what: changes reach every watcher of their domain, in order, or he is told otherwise."""
