package cli

import (
	"errors"
	"net/http"

	"ixmage/alias/cli/spelling"
	"ixmage/alias/client"
)

// suggest adds a similar name to the error that a resource does not exist, if there is one.
// noun is the plural in the path of the API.
func (s *session) suggest(err error, noun, name string) error {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Status != http.StatusNotFound {
		return err
	}
	names, listErr := s.names(noun)
	if listErr != nil {
		return err
	}
	if best := spelling.Closest(name, names); best != "" {
		said := *p
		said.Detail += ". Did you mean " + best + "?"
		return &said
	}
	return err
}

// names lists the names of resources, or what names them.
func (s *session) names(noun string) ([]string, error) {
	v, err := s.resources(noun)
	if err != nil {
		return nil, err
	}
	by := map[string]string{"operations": "id", "orphans": "user"}[noun]
	if by == "" {
		by = "name"
	}
	var names []string
	for _, e := range v.Get(noun).List() {
		names = append(names, e.Get(by).Text())
	}
	return names, nil
}

// resources reads all aliases or credentials, or the first page of other resources.
func (s *session) resources(noun string) (client.Value, error) {
	if noun == "aliases" || noun == "credentials" {
		return s.list(namesOf(noun))
	}
	resp, err := s.get(noun)
	if err != nil {
		return client.Value{}, err
	}
	return resp.Value()
}
