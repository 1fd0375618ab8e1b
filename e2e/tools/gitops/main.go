// Gitops-readers says what GitOps tools make of objects: kstatus (which Flux and others wait with) and Argo CD's health.
//
// Each line of standard input is a JSON array of objects; the line of standard output that answers it has a verdict for each.
// Scripts for Argo CD are looked up as it does: first the folder given as the only argument, laid out <group>/<Kind>/health.lua,
// each after its common.lua and run with the few libraries that an entry of argocd-cm gets, then those that Argo CD brings, which
// get all of them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/argoproj/argo-cd/v3/resource_customizations"
	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

type answer struct {
	Kstatus verdict `json:"kstatus"`
	// Nil where Argo CD has no opinion: the kind has no script.
	Argo *verdict `json:"argo,omitempty"`
}

// An entry of argocd-cm may not use more libraries than these, unless an administrator says so.
var fewLibraries = []struct {
	name string
	open lua.LGFunction
}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}

// Argo CD gives up after this long.
const patience = time.Second

var healths = map[string]bool{
	"Healthy": true, "Progressing": true, "Degraded": true, "Suspended": true, "Missing": true, "Unknown": true,
}

type script struct {
	code         *lua.FunctionProto
	allLibraries bool
}

type reader struct {
	ours, theirs fs.FS
	compiled     map[string]*script
}

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: gitops-readers FOLDER-WITH-HEALTH-SCRIPTS"))
	}
	r := reader{os.DirFS(os.Args[1]), resource_customizations.Embedded, map[string]*script{}}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<28)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		answers, err := r.line(in.Bytes())
		if err != nil {
			fail(err)
		}
		if err := out.Encode(answers); err != nil {
			fail(err)
		}
	}
	if err := in.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "gitops-readers:", err)
	os.Exit(1)
}

func (r *reader) line(text []byte) ([]answer, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	answers := make([]answer, 0, len(raw))
	for _, one := range raw {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(one); err != nil {
			return nil, err
		}
		a, err := r.judge(object)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func (r *reader) judge(object *unstructured.Unstructured) (answer, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return answer{}, fmt.Errorf("kstatus: %w", err)
	}
	argo, err := r.health(object)
	if err != nil {
		return answer{}, fmt.Errorf("Argo CD: %w", err)
	}
	return answer{verdict{computed.Status.String(), computed.Message}, argo}, nil
}

func (r *reader) health(object *unstructured.Unstructured) (*verdict, error) {
	if object.GetDeletionTimestamp() != nil {
		return &verdict{"Progressing", "Pending deletion"}, nil // no script is asked about what is going away
	}
	s, err := r.script(path.Join(object.GroupVersionKind().Group, object.GetKind(), "health.lua"))
	if s == nil || err != nil {
		return nil, err
	}
	vm := lua.NewState(lua.Options{SkipOpenLibs: !s.allLibraries})
	defer vm.Close()
	for _, library := range fewLibraries {
		if err := vm.CallByParam(lua.P{Fn: vm.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	vm.SetContext(ctx)
	vm.SetGlobal("obj", toLua(vm, object.Object))
	if err := vm.CallByParam(lua.P{Fn: vm.NewFunctionFromProto(s.code), NRet: 1, Protect: true}); err != nil {
		return nil, err
	}
	said, ok := vm.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returned %s, not a table", vm.Get(-1).Type())
	}
	v := &verdict{Status: lua.LVAsString(said.RawGetString("status")), Message: lua.LVAsString(said.RawGetString("message"))}
	if !healths[v.Status] {
		return nil, fmt.Errorf("the script returned the status %q", v.Status)
	}
	return v, nil
}

// Nil when neither folder has one.
func (r *reader) script(name string) (*script, error) {
	if known, ok := r.compiled[name]; ok {
		return known, nil
	}
	var found *script
	common, err := fs.ReadFile(r.ours, "common.lua")
	if err != nil {
		return nil, err
	}
	for _, place := range []struct {
		files        fs.FS
		before       []byte
		allLibraries bool
	}{{r.ours, common, false}, {r.theirs, nil, true}} {
		text, err := fs.ReadFile(place.files, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		parsed, err := parse.Parse(bytes.NewReader(append(bytes.Clone(place.before), text...)), name)
		if err != nil {
			return nil, err
		}
		code, err := lua.Compile(parsed, name)
		if err != nil {
			return nil, err
		}
		found = &script{code, place.allLibraries}
		break
	}
	r.compiled[name] = found
	return found, nil
}

func toLua(vm *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		list := vm.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(toLua(vm, item))
		}
		return list
	case map[string]any:
		table := vm.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(vm, item))
		}
		return table
	default:
		return lua.LNil
	}
}
