// Keeps the page up to date: the server sends the parts that have changed, as HTML, whenever it has measured anew. The page
// is complete without this script, and stays as it was when the server cannot be reached.
"use strict";
(() => {
	const state = document.getElementById("live");
	if (!window.EventSource || !state) return;
	const text = state.querySelector("span");

	const say = (on, words) => {
		state.classList.toggle("on", on);
		state.classList.toggle("off", !on);
		if (text.textContent !== words) text.textContent = words;
	};

	// What a reader is about to use or copy stays as it is.
	const inUse = (part) => {
		if (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return true;
		const chosen = document.getSelection();
		return chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
	};

	// How to find what takes the place of an element: by its name, else by what it is, and leads to, within the nearest that has one.
	const likeness = (e) => {
		if (e.id) return () => document.getElementById(e.id);
		const within = e.parentElement.closest("[id]");
		const kind = e.localName + (e.hasAttribute("href") ? `[href="${CSS.escape(e.getAttribute("href"))}"]` : "");
		const n = [...within.querySelectorAll(kind)].indexOf(e);
		return () => document.getElementById(within.id)?.querySelectorAll(kind)[n];
	};

	const replace = (id, html) => {
		const part = document.getElementById(id);
		if (!part || inUse(part)) return false;
		const open = new Set();
		for (const d of part.querySelectorAll("details[open]")) open.add(d.id);
		const focused = part !== document.activeElement && part.contains(document.activeElement) && likeness(document.activeElement);
		const scrolled = new Map();
		for (const s of part.querySelectorAll(".scroll[id]")) scrolled.set(s.id, s.scrollLeft);
		part.innerHTML = html;
		for (const d of part.querySelectorAll("details")) if (open.has(d.id)) d.open = true;
		for (const [k, x] of scrolled) { const s = document.getElementById(k); if (s) s.scrollLeft = x; }
		if (focused) focused()?.focus({ preventScroll: true });
		return true;
	};

	const late = new Map(); // parts that were in use when they came
	let source;
	const connect = () => {
		source = new EventSource("/live");
		source.onopen = () => say(true, "live");
		source.onerror = () => say(false, source.readyState === EventSource.CLOSED ? "not live: reload to try again" : "connection lost, trying again");
		source.addEventListener("part", (e) => {
			const { id, html } = JSON.parse(e.data);
			if (replace(id, html)) late.delete(id); else late.set(id, html);
			for (const [k, h] of late) if (replace(k, h)) late.delete(k);
		});
	};
	const disconnect = () => { source?.close(); source = undefined; };

	// Nobody needs what nobody sees.
	document.addEventListener("visibilitychange", () => { if (document.hidden) disconnect(); else if (!source) connect(); });
	window.addEventListener("pagehide", disconnect);
	window.addEventListener("pageshow", (e) => { if (e.persisted && !source) connect(); });
	if (!document.hidden) connect();
})();
