// The browser's tests are a module of their own, so that what drives it is no dependency of the product. They know the program
// as its users do: by its command line, its log, and its pages.
module kdht/appliance/browser

go 1.26.0

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
)

require github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
