// Package sdk tests kvllm with the SDKs that people use. It is a module of its
// own, so that they stay out of the library's go.mod.
package sdk
