package testkit

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// atOnce is how many tests of a package run at once for each processor. Most of
// them wait: for servers that start, for disks, for timeouts.
const atOnce = 2

// Main runs the tests of a package. No goroutine is left when all are done.
//
// A pool of go-redis that could not dial tries again in a goroutine, which ends
// up to a second after the pool was closed. A server of redistest holds one
// until the end of its test.
func Main(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(parallel())); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// parallel is what -parallel says, else more than go test takes by itself. The
// race detector makes tests compute what they would wait for.
func parallel() int {
	n := runtime.GOMAXPROCS(0)
	if !Race {
		n *= atOnce
	}
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "test.parallel" {
			n = f.Value.(flag.Getter).Get().(int)
		}
	})
	return n
}
