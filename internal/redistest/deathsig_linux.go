package redistest

import "syscall"

// sysProcAttr has the kernel kill the server when the test dies in a way that
// runs no cleanup.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
