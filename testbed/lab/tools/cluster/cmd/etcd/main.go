// Command etcd is etcd's own server. Its releases build it from a module that the Go proxy does not serve as a program.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
