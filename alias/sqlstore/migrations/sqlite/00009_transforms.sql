-- Transforms of an alias. widths: numbers, separated by spaces; templates: a JSON object of queries by
-- name; signing_keys: a JSON list, with secrets that are bound to the alias's id and the kid. An alias
-- from before has no transforms.

-- +goose Up
ALTER TABLE aliases ADD COLUMN transforms   TEXT NOT NULL DEFAULT 'off';
ALTER TABLE aliases ADD COLUMN access       TEXT NOT NULL DEFAULT 'open';
ALTER TABLE aliases ADD COLUMN widths       TEXT NOT NULL DEFAULT '20 40 60 120 250 330 500 960 1280 1920 3840';
ALTER TABLE aliases ADD COLUMN templates    TEXT NOT NULL DEFAULT '{}';
ALTER TABLE aliases ADD COLUMN signing_keys TEXT NOT NULL DEFAULT '[]';

-- +goose Down
ALTER TABLE aliases DROP COLUMN signing_keys;
ALTER TABLE aliases DROP COLUMN templates;
ALTER TABLE aliases DROP COLUMN widths;
ALTER TABLE aliases DROP COLUMN access;
ALTER TABLE aliases DROP COLUMN transforms;
