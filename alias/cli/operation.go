package cli

import (
	"net/url"
	"time"

	"ixmage/alias/client"
)

type operationCmd struct {
	Connection

	Ls   operationLsCmd   `cmd:"" help:"List operations, the newest first."`
	Get  operationGetCmd  `cmd:"" help:"Read an operation and its steps."`
	Wait operationWaitCmd `cmd:"" help:"Wait until an operation has ended. The exit status is 1 if it failed."`
}

type operationLsCmd struct {
	Alias      string `help:"Operations of this alias." placeholder:"NAME" completion:"aliases"`
	Credential string `help:"Operations of this credential." placeholder:"NAME" completion:"credentials"`
	State      string `help:"Operations in this state: running, done, failed or superseded." placeholder:"STATE"`
	Limit      int    `help:"Operations at most; 0 is all." default:"100" placeholder:"N"`
}

func (*operationLsCmd) Examples() []string {
	return []string{"ixmage operation ls", "ixmage operation ls --state failed --limit 5"}
}

func (c *operationLsCmd) Run(s *session) error {
	query := url.Values{}
	for name, value := range map[string]string{"alias": c.Alias, "credential": c.Credential, "state": c.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	v, err := s.list(client.Pages{
		Path: client.Path("operations"), Query: query, Member: "operations", By: "id", Param: "before", Size: 1000,
		Limit: c.Limit,
	})
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) {
		s.table(v.Get("operations").List(), []column{
			col("ID", "id"), col("KIND", "kind"), col("STATE", "state"), col("ALIAS", "alias"), col("CREDENTIAL", "credential"),
			{"BEGUN", at("created_at")}, {"TOOK", took("created_at")}, {"STEP", currentStep},
		})
	})
}

// currentStep is the step that runs or failed.
func currentStep(v client.Value) string {
	for _, step := range v.Get("steps").List() {
		if state := step.Get("state").Text(); state == "running" || state == "failed" {
			return step.Get("name").Text()
		}
	}
	return ""
}

// took is the time from a member to finished_at, or until now.
func took(begin string) func(client.Value) string {
	return func(v client.Value) string {
		from, err := time.Parse(time.RFC3339Nano, v.Get(begin).Text())
		if err != nil {
			return ""
		}
		to, err := time.Parse(time.RFC3339Nano, v.Get("finished_at").Text())
		if err != nil {
			to = time.Now()
		}
		return max(0, to.Sub(from)).Round(100 * time.Millisecond).String()
	}
}

type operationGetCmd struct {
	ID string `arg:"" name:"id" help:"Id of the operation." completion:"operations"`
}

func (*operationGetCmd) Examples() []string { return []string{"ixmage operation get OPERATION"} }

func (c *operationGetCmd) Run(s *session) error {
	resp, err := s.get("operations", c.ID)
	if err != nil {
		return err
	}
	return s.show(resp, s.operation)
}

// operation prints an operation and its steps.
func (s *session) operation(v client.Value) {
	s.fields([]column{
		col("id", "id"), col("kind", "kind"), col("state", "state"), col("alias", "alias"), col("credential", "credential"),
		{"begun", at("created_at")}, {"took", took("created_at")}, col("superseded by", "superseded_by"),
		col("failed step", "error", "step"), col("error", "error", "detail"),
	}, v)
	s.out.printf("\n")
	s.table(v.Get("steps").List(), []column{
		col("STEP", "name"), col("STATE", "state"), {"TOOK", took("started_at")}, col("DETAIL", "detail"),
	})
}

type operationWaitCmd struct {
	ID string `arg:"" name:"id" help:"Id of the operation." completion:"operations"`
}

func (*operationWaitCmd) Examples() []string { return []string{"ixmage operation wait OPERATION"} }

func (c *operationWaitCmd) Run(s *session) error { return s.waitFor(c.ID) }
