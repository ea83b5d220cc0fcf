
"use strict";

// Numbers as people read them, with the words of the reports in the terminal (report/quantity.rs).

const GLUE = "\u00a0";

// 412 MiB, 9.6 MiB, 96 B
function bytes(amount) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return amount.toFixed(unit > 0 && amount < 9.95 ? 1 : 0) + GLUE + units[unit];
}

// 3,012 below a million, then 2.1 million
function count(number) {
  if (number >= 1e9) return (number / 1e9).toFixed(1) + GLUE + "billion";
  if (number >= 1e6) return (number / 1e6).toFixed(1) + GLUE + "million";
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

// 1 block, 3,012 blocks
function counted(number, noun) {
  return count(number) + GLUE + noun + (number === 1 ? "" : "s");
}

// 51 %; what is there but rounds to nothing is <1 %
function percent(part, whole) {
  const share = whole > 0 ? part / whole : 0;
  return (share > 0 && share < 0.005 ? "<1" : (share * 100).toFixed(0)) + GLUE + "%";
}

// +24 MiB (+240 %)
function change(before, after, words) {
  if (before === after) return "no change";
  const sign = after > before ? "+" : "−";
  const size = Math.abs(after - before);
  const share = before > 0 && after > 0 ? ` (${sign}${percent(size, before)})` : "";
  return sign + words(size) + share;
}
