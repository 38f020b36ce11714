package bpf

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"kdht/bpf/testenv"
)

// stackLimit is MAX_BPF_STACK: what all functions of a chain of calls have together. Each takes a multiple of stackUnit, of
// which a JIT that most kernels have may make 16.
const (
	stackLimit = 512
	stackUnit  = 32
)

// TestStackDepth finds, of each program, the chain of calls that needs most of the stack, by what the verifier says that each
// function needs: the interpreter, all that the stock kernel for amd64 has, has no more for it than a JIT.
func TestStackDepth(t *testing.T) {
	testenv.NeedRoot(t)
	logs, err := VerifierLogs()
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) != 3 {
		t.Errorf("%d programs", len(logs))
	}
	for name, log := range logs {
		t.Run(name, func(t *testing.T) {
			program, _, _ := strings.Cut(name, ",")
			depth, chain := deepest(t, program, log)
			t.Logf("verifier: %s: the deepest chain of calls takes %d of %d bytes of stack: %s", name, depth, stackLimit, strings.Join(chain, " + "))
			if depth > stackLimit {
				t.Errorf("the interpreter has %d bytes", stackLimit)
			}
			if program == kdhtProgKdht && len(chain) < 3 {
				t.Errorf("the calls are not understood: %v", chain)
			}
		})
	}
}

// deepest returns how much of the stack the chain of calls needs that needs most of it.
func deepest(t *testing.T, program, log string) (depth int, chain []string) {
	t.Helper()
	line := regexp.MustCompile(`stack depth ([0-9+]+)`).FindStringSubmatch(log)
	if line == nil {
		t.Fatalf("the verifier does not tell the functions' stacks:\n%s", log)
	}
	needs := strings.Split(line[1], "+")
	spec, err := loadKdht()
	if err != nil {
		t.Fatal(err)
	}
	var names []string // in the order of the code, which is that of the verifier
	calls := map[string][]string{}
	for _, ins := range spec.Programs[program].Instructions {
		if f := btf.FuncMetadata(&ins); f != nil {
			names = append(names, f.Name)
		}
		if ins.IsFunctionCall() {
			from := names[len(names)-1]
			calls[from] = append(calls[from], ins.Reference())
		}
	}
	if len(names) != len(needs) {
		t.Fatalf("%d functions, but the stacks of %d: %s", len(names), len(needs), line[1])
	}
	need := map[string]int{}
	for i, name := range names {
		n, err := strconv.Atoi(needs[i])
		if err != nil {
			t.Fatal(err)
		}
		need[name] = (max(n, 1) + stackUnit - 1) / stackUnit * stackUnit
	}
	var from func(name string) (depth int, chain []string)
	from = func(name string) (depth int, chain []string) {
		for _, callee := range calls[name] {
			if d, c := from(callee); d > depth {
				depth, chain = d, c
			}
		}
		return depth + need[name], append([]string{fmt.Sprintf("%s %d", name, need[name])}, chain...)
	}
	return from(program)
}
