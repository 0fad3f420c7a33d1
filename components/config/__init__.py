"""The stack configuration: typed, validated settings and the facts they are checked against."""
