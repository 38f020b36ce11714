// Package browser tests the pages of a box in a real browser, Chromium, driven by chromedp: with and without JavaScript, on a
// phone and on a desktop, light and dark. What it sees is kept in bin/screenshots.
package browser
