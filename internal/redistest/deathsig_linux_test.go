package redistest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// childEnv makes TestKilledBinary the binary that is killed.
const childEnv = "REDISTEST_CHILD"

func TestKilledBinary(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		s := StartSentinel(t, 0, 1)
		s.Nodes[0].Pause()
		fmt.Println("pids", s.Nodes[0].PID(), s.Sentinels[0].PID())
		<-t.Context().Done() // Never, as the process is killed.
	}
	t.Parallel()
	binary(t) // Skips.
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledBinary$")
	// Nothing can remove the directories of a killed process but this test.
	cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+tempDir(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	for sc := bufio.NewScanner(out); pids[1] == 0 && sc.Scan(); {
		_, _ = fmt.Sscanf(sc.Text(), "pids %d %d", &pids[0], &pids[1])
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // It was killed.
	if pids[1] == 0 {
		t.Fatal("the child started no servers")
	}
	for _, pid := range pids {
		err := poll(5*time.Second, func() error {
			if gone(pid) {
				return nil
			}
			return fmt.Errorf("process %d is there", pid)
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// gone reports whether a process has ended. One that is not reaped, as may
// happen to orphans in containers, has.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return os.IsNotExist(err)
	}
	var id int
	var name, state string
	_, _ = fmt.Sscan(string(stat), &id, &name, &state)
	return state == "Z"
}
