// Command judge runs the bench: each row of the table is one promise of cairn's, measured beside a floor program in the
// same run, turn by turn, and printed as a ratio with its spread and its target. A missed target is printed as MISSED and
// is no failure; a program that fails is.
//
// It starts cairn, the floor programs and strace, ends only those, and works in one directory that it was given. One row
// runs at a time.
package main
