package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

func main() {
	var wg sync.WaitGroup
	results := make(chan string, 100)
	for i := 0; i < 50; i++ {
		wg.Add(1)
		go func(n int) {
			defer wg.Done()
			time.Sleep(time.Duration(n%7) * time.Millisecond)
			garbage := make([][]byte, 0)
			for k := 0; k < 200; k++ {
				garbage = append(garbage, make([]byte, 4096))
			}
			sum := sha256.Sum256([]byte(fmt.Sprint(n, len(garbage))))
			results <- fmt.Sprintf("%02d %x", n, sum[:6])
		}(i)
	}
	wg.Wait()
	close(results)
	var lines []string
	for line := range results {
		lines = append(lines, line)
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	func() {
		defer func() { fmt.Println("recovered:", recover()) }()
		var p *int
		fmt.Println(*p)
	}()
	if _, err := os.Stat("/no/such/file"); err != nil {
		fmt.Println(err)
	}
	os.Exit(5)
}
