package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/swaggest/jsonschema-go"

	"ixmage/alias"
)

// schema is a JSON Schema, or a reference to one.
type schema = map[string]any

const schemaPath = "#/components/schemas/"

func refTo(name string) schema { return schema{"$ref": schemaPath + name} }

// schemas derives schemas from Go types and from fields. Objects and enumerations become
// components of the document.
type schemas struct {
	reflector  jsonschema.Reflector
	components map[string]schema
	done       map[reflect.Type]schema
	errs       []error // what is not described
}

func newSchemas() *schemas {
	s := &schemas{components: map[string]schema{}, done: map[reflect.Type]schema{}}
	s.reflector.DefaultOptions = []func(*jsonschema.ReflectContext){
		jsonschema.RootRef, jsonschema.DefinitionsPrefix(schemaPath),
		func(rc *jsonschema.ReflectContext) { rc.EnvelopNullability = true },
		jsonschema.CollectDefinitions(s.collect), jsonschema.InterceptDefName(definitionName),
		jsonschema.InterceptNullability(neverNullLists),
		jsonschema.InterceptSchema(typeSchema), jsonschema.InterceptProp(s.property),
	}
	return s
}

func (s *schemas) collect(name string, def jsonschema.Schema) {
	s.components[name] = s.simple(def)
}

func (s *schemas) simple(def jsonschema.Schema) schema {
	m, err := def.ToSchemaOrBool().ToSimpleMap()
	s.errs = append(s.errs, err)
	return m
}

// of returns the schema of a type whose values are encoded in answers.
func (s *schemas) of(t reflect.Type) schema {
	if known, ok := s.done[t]; ok {
		return maps.Clone(known)
	}
	def, err := s.reflector.Reflect(reflect.New(t).Elem().Interface())
	s.errs = append(s.errs, err)
	s.done[t] = s.simple(def)
	return maps.Clone(s.done[t])
}

// definitionName is the name of a type in the document.
func definitionName(t reflect.Type, _ string) string {
	switch t {
	case reflect.TypeFor[alias.State]():
		return "AliasState"
	case reflect.TypeFor[alias.Kind]():
		return "CredentialKind"
	}
	return capital(strings.TrimSuffix(t.Name(), "JSON"))
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// neverNullLists says that lists and maps are never null: the API answers [] and {}.
func neverNullLists(p jsonschema.InterceptNullabilityParams) {
	if k := p.Type.Kind(); k == reflect.Slice || k == reflect.Map {
		p.Schema.RemoveType(jsonschema.Null)
	}
}

// typeSchema sets what a Go type does not show by itself: the values of an enumeration, and
// the forms of a type that writes its own JSON.
func typeSchema(p jsonschema.InterceptSchemaParams) (stop bool, err error) {
	t := p.Value.Type()
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[fallbackJSON]() && !p.Processed:
		p.Schema.OneOf = []jsonschema.SchemaOrBool{jsonschema.String.ToSchemaOrBool(), refSchema("FallbackPair")}
		return true, nil
	case t == reflect.TypeFor[templateEdit]() && !p.Processed:
		value := jsonschema.Schema{OneOf: []jsonschema.SchemaOrBool{
			jsonschema.String.ToSchemaOrBool(), jsonschema.Number.ToSchemaOrBool(),
		}}
		options := (&jsonschema.Schema{}).WithType(jsonschema.Object.Type()).WithAdditionalProperties(value.ToSchemaOrBool())
		p.Schema.OneOf = []jsonschema.SchemaOrBool{
			jsonschema.String.ToSchemaOrBool(), options.ToSchemaOrBool(), jsonschema.Null.ToSchemaOrBool(),
		}
		return true, nil
	case writesJSON(t) && t != reflect.TypeFor[json.RawMessage]() && t != reflect.TypeFor[time.Time]():
		return true, fmt.Errorf("%v writes its own JSON: give it a case in typeSchema (openapi_schema.go)", t)
	case !p.Processed:
		return false, nil
	case t.Kind() == reflect.Int64:
		p.Schema.WithFormat("int64")
	}
	if values := enumOf(t); values != nil {
		p.Schema.WithEnum(values...)
	}
	return false, nil
}

func writesJSON(t reflect.Type) bool {
	marshaler := reflect.TypeFor[json.Marshaler]()
	return t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler)
}

func refSchema(name string) jsonschema.SchemaOrBool {
	ref := schemaPath + name
	return (&jsonschema.Schema{Ref: &ref}).ToSchemaOrBool()
}

// property completes the schema of a member. Every member needs a description.
func (s *schemas) property(p jsonschema.InterceptPropParams) error {
	if !p.Processed {
		return nil
	}
	if edit, ok := memberSchemas[definitionNameOf(p.ParentSchema)+"."+p.Name]; ok {
		if err := edit(p.PropertySchema); err != nil {
			return err
		}
	}
	if s := p.PropertySchema; len(s.AnyOf) > 0 { // an object or null
		s.Type, s.AnyOf[1].TypeObject.Type = nil, nil
	}
	owner := strings.Join(p.Path, ".")
	if p.ParentSchema.ReflectType != nil {
		owner = p.ParentSchema.ReflectType.String()
	}
	if p.PropertySchema.Description == nil {
		s.errs = append(s.errs, fmt.Errorf(
			"the member %s of %s has no description: add a tag like `description:\"What it means.\"`", p.Name, owner))
	}
	tag := p.Field.Tag.Get("json")
	if !strings.Contains(tag, ",omitempty") && !strings.Contains(tag, ",omitzero") {
		p.ParentSchema.Required = append(p.ParentSchema.Required, p.Name)
	}
	if isTime(p.Name) && p.PropertySchema.HasType(jsonschema.String) {
		p.PropertySchema.WithFormat("date-time")
	}
	return nil
}

func definitionNameOf(s *jsonschema.Schema) string {
	t := s.ReflectType
	if t == nil {
		return ""
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return definitionName(t, "")
}

// isTime reports whether a member of this name is a time. The API has names like
// created_at for times and for nothing else.
func isTime(name string) bool {
	return name == "at" || name == "since" || name == "until" || strings.HasSuffix(name, "_at")
}

// memberSchemas corrects the schemas of members whose Go type says too little.
var memberSchemas = map[string]func(*jsonschema.Schema) error{
	"Credential.scope": func(s *jsonschema.Schema) error {
		s.WithEnum(append([]any{""}, enumOf(reflect.TypeFor[alias.Verdict]())...)...)
		return nil
	},
	"Plan.policy_document":    objectOrNull,
	"PlanRole.trust_policy":   objectOrNull,
	"PlanRole.session_policy": objectOrNull,
	"Problem.type": func(s *jsonschema.Schema) error {
		s.WithFormat("uri").WithEnum(problemTypes()...)
		return nil
	},
	// An operation has superseded_by itself.
	"OperationError.superseded_by": func(*jsonschema.Schema) error { return jsonschema.ErrSkipProperty },
}

// problemTypes lists the types of problems.
func problemTypes() []any {
	var types []any
	for _, k := range kinds {
		if t := problemType + k.code; !slices.Contains(types, any(t)) {
			types = append(types, t)
		}
	}
	return types
}

// object returns the schema of an object with the given fields. like are the types whose
// members mean the same as the fields of their names.
func (s *schemas) object(where string, fields []field, like []reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range fields {
		if f.read.decode == nil {
			continue
		}
		property := s.union(where+"."+f.name, f.read.forms, like)
		if property["description"] = descriptionOf(f, like); property["description"] == "" {
			s.errs = append(s.errs, fmt.Errorf(
				"the member %s.%s has no description: set doc in its field", where, f.name))
		}
		if f.required {
			required = append(required, f.name)
		} else if f.read.preset != nil {
			property["default"] = f.read.preset
		}
		properties[f.name] = property
	}
	out := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// descriptionOf returns the text of a field, or of a member with its name in one of the types.
func descriptionOf(f field, like []reflect.Type) string {
	if f.doc != "" {
		return f.doc
	}
	for _, t := range like {
		for _, m := range membersOf(t) {
			if name, _, _ := strings.Cut(m.Tag.Get("json"), ","); name == f.name {
				return m.Tag.Get("description")
			}
		}
	}
	return ""
}

func membersOf(t reflect.Type) []reflect.StructField {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	return reflect.VisibleFields(t)
}

// union returns the schema of a value that has one of the forms.
func (s *schemas) union(where string, forms []form, like []reflect.Type) schema {
	if len(forms) == 0 {
		s.errs = append(s.errs, fmt.Errorf("the reader of %s does not say what it accepts: set forms", where))
	}
	var all []any
	for _, f := range forms {
		one := s.form(where, f, like)
		if several, ok := one["oneOf"].([]any); ok {
			all = append(all, several...)
			continue
		}
		all = append(all, one)
	}
	if len(all) == 1 {
		return all[0].(schema)
	}
	return schema{"oneOf": all}
}

// form returns the schema of one form of a value in a request.
func (s *schemas) form(where string, f form, like []reflect.Type) schema {
	switch {
	case f.fields != nil:
		object := s.object(where, f.fields, like)
		if f.name == "" {
			return object
		}
		s.components[f.name] = object
		return refTo(f.name)
	case f.is == nil:
		return schema{"type": "null"}
	case f.only != nil:
		return schema{"type": "string", "enum": f.only}
	}
	switch f.is {
	case reflect.TypeFor[time.Duration]():
		return schema{"type": "string", "pattern": durationForm}
	case reflect.TypeFor[alias.Size]():
		// A list of types would be shorter, and some generators of clients do not know it.
		return schema{"oneOf": []any{
			schema{"type": "string", "pattern": sizeForm}, schema{"type": "integer", "format": "int64", "minimum": 0},
		}}
	case reflect.TypeFor[alias.Secret]():
		return schema{"type": "string", "format": "password", "writeOnly": true}
	}
	return s.of(f.is)
}

// Forms of values that a request has as strings.
const (
	durationForm = `^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$` // time.ParseDuration
	sizeForm     = `^([0-9]+(KiB|MiB|GiB)?)?$`                                      // alias.ParseSize, or none
)

// err returns everything that is not described.
func (s *schemas) err() error { return errors.Join(s.errs...) }

// objectOrNull is the schema of a policy document.
func objectOrNull(s *jsonschema.Schema) error {
	s.AddType(jsonschema.Object)
	s.AddType(jsonschema.Null)
	return nil
}
