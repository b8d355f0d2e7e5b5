// This file is empty: without an assembly file in the package the compiler
// refuses declarations of functions that have no body.
