// Search over all pages. words.js sets WORDS: [page, its title, anchor, section, text] for each cell that shows something.
"use strict";
const box = document.querySelector("input[type=search]"), hits = document.getElementById("hits");

function add(parent, tag, text) {
  const part = parent.appendChild(document.createElement(tag));
  part.textContent = text;
  return part;
}

function snippet(parent, text, words) {
  const low = text.toLowerCase(), places = words.map((word) => low.indexOf(word)).filter((place) => place >= 0);
  const from = text.lastIndexOf(" ", Math.max(0, Math.min(...places, text.length) - 50)) + 1, shown = text.slice(from, from + 180);
  const split = new RegExp("(" + words.map((word) => word.replace(/[^\p{L}\p{N}_\s]/gu, "\\$&")).join("|") + ")", "iu");
  if (from) add(parent, "span", "… ");
  shown.split(split).forEach((piece, i) => add(parent, i % 2 ? "mark" : "span", piece));
}

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const ranked = [];
  for (const [page, title, anchor, section, text] of words.length ? WORDS : []) {
    const heading = (title + " " + section).toLowerCase(), all = heading + " " + text.toLowerCase();
    if (!words.every((word) => all.includes(word))) continue;
    const rank = words.filter((word) => heading.includes(word)).length * 2 + words.every((word) => text.toLowerCase().includes(word));
    ranked.push({ rank, page, title, anchor, section, text });
  }
  ranked.sort((a, b) => b.rank - a.rank);
  hits.replaceChildren();
  hits.hidden = !words.length;
  if (words.length) add(hits, "li", ranked.length > 30 ? `${ranked.length} places, the first 30` : `${ranked.length} places`).className = "count";
  for (const hit of ranked.slice(0, 30)) {
    const link = add(add(hits, "li", ""), "a", "");
    link.href = `${hit.page}.html#${hit.anchor}`;
    add(link, "b", hit.section && hit.section !== hit.title ? `${hit.title} › ${hit.section}` : hit.title);
    snippet(add(link, "small", ""), hit.text, words);
  }
}

box.addEventListener("input", search);
box.form.addEventListener("submit", (event) => {
  event.preventDefault();
  hits.querySelector("a")?.click();
});
hits.addEventListener("click", () => { hits.hidden = true; });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hits.hidden = true;
  if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
});
if (innerWidth < 1100) document.querySelector("nav details")?.removeAttribute("open");
