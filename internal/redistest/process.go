package redistest

import (
	"os"
	"os/exec"
	"runtime"
	"time"
)

// A process is a running child process.
type process struct {
	*os.Process
	done chan struct{} // Closed when the process has been reaped.
}

// spawn starts bin in dir with its output going to the file out.
func spawn(dir string, out *os.File, bin string, args ...string) (*process, error) {
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Stdout = out
	cmd.Stderr = out
	cmd.SysProcAttr = sysProcAttr()

	p := &process{done: make(chan struct{})}
	errc := make(chan error)
	go func() {
		// The kernel ties the parent death signal to the thread that forked,
		// so the thread is kept for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		errc <- err
		if err == nil {
			_ = cmd.Wait() // How it ended is of no interest.
		}
	}()
	if err := <-errc; err != nil {
		return nil, err
	}
	p.Process = cmd.Process
	return p, nil
}

// exited reports whether the process is gone.
func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill kills the process, paused or not, and waits until it is gone.
func (p *process) kill() {
	_ = p.Kill() // Fails only where the process is gone already.
	<-p.done
}

// stop asks the process to end, and kills it where it does not.
func (p *process) stop(grace time.Duration) {
	if resume(p.Process) == nil && terminate(p.Process) == nil {
		select {
		case <-p.done:
			return
		case <-time.After(grace):
		}
	}
	p.kill()
}

// poll calls f until it returns nil, for no longer than timeout. It returns
// the last error of f.
func poll(timeout time.Duration, f func() error) error {
	deadline := time.Now().Add(timeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(wait)
	}
}
