//go:build !race

package toxic

// stride is by how much a proof of numbers is made smaller.
const stride = 1
