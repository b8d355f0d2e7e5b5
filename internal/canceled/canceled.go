// Package canceled makes errors of contexts that have ended.
package canceled

import (
	"context"
	"errors"
	"fmt"
)

// Err returns nil while ctx lasts, and then an error that wraps both what ctx.Err
// returns and the cause, if that is another.
func Err(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx) // not before: it may end in between
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
