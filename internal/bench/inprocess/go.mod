module ixmage/internal/bench/inprocess

go 1.26
