-- What a verification says nothing about: JSON, a list of names with reasons.

-- +goose Up
ALTER TABLE verifications ADD COLUMN not_tried TEXT NOT NULL DEFAULT 'null';

-- +goose Down
ALTER TABLE verifications DROP COLUMN not_tried;
