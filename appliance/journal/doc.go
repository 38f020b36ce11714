// Package journal keeps the last lines of the log in memory, for those who come later: the page's recent events, the log
// stream of the admin plane, the support bundle. What is kept is bounded, what had to be forgotten is counted, and a
// reader that is too slow loses lines and is told how many: nobody who logs ever waits for one who reads.
package journal
