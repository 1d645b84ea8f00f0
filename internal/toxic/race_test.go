//go:build race

package toxic

const stride = 8
