package contract

import "github.com/google/uuid"

// None is the input of a route that takes nothing, and the output of one that answers 204.
type None struct{}

// ByID is the input of a route about one thing.
type ByID struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"Of the one it is about"`
}

// Body is an answer that is only a body.
type Body[T any] struct{ Body T }

// Created is the answer to making something: the thing and where it is from now on.
type Created[T any] struct {
	Location string `header:"Location"`
	Body     T
}
