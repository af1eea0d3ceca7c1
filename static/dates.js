/** Points in time as people say them. All take seconds since the epoch, as the protocol has them. */

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long" });
const DAY_AND_YEAR = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "long",
  year: "numeric",
});
const SHORT_DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const WEEKDAY = new Intl.DateTimeFormat("en-GB", { weekday: "short" });
const DAYS_OF_A_WEEK = 7;

/** A day to compare and to use as a key: "2026-05-03", local. */
export function dayOf(timestamp) {
  const date = new Date(timestamp * 1000);
  const pad = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** Whole days from `timestamp`'s day to today; 0 is today. */
function daysAgo(timestamp) {
  const midnight = (date) => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return (midnight(new Date()) - midnight(new Date(timestamp * 1000))) / 86_400_000;
}

export function clock(timestamp) {
  return CLOCK.format(timestamp * 1000);
}

/** "Today", "Yesterday", "3 May", "3 May 2024". */
export function dayName(timestamp) {
  const ago = daysAgo(timestamp);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  const sameYear = new Date(timestamp * 1000).getFullYear() === new Date().getFullYear();
  return (sameYear ? DAY : DAY_AND_YEAR).format(timestamp * 1000);
}

/** "3 May 2026, 14:05". */
export function fullTime(timestamp) {
  return `${DAY_AND_YEAR.format(timestamp * 1000)}, ${clock(timestamp)}`;
}

/** As short as a list can have it: "14:05", "Yesterday", "Tue", "3 May", "3 May 2024". */
export function shortTime(timestamp) {
  const ago = daysAgo(timestamp);
  if (ago === 0) return clock(timestamp);
  if (ago === 1) return "Yesterday";
  if (ago > 1 && ago < DAYS_OF_A_WEEK) return WEEKDAY.format(timestamp * 1000);
  const sameYear = new Date(timestamp * 1000).getFullYear() === new Date().getFullYear();
  return sameYear ? SHORT_DAY.format(timestamp * 1000) : DAY_AND_YEAR.format(timestamp * 1000);
}
