/** Light or dark: the system decides until somebody chooses otherwise. */

import { removeStored, writeStored } from "./storage.js";

const SYSTEM = window.matchMedia("(prefers-color-scheme: dark)");

export class Theme {
  #button;

  constructor(button) {
    this.#button = button;
    button.addEventListener("click", () => this.#toggle());
    SYSTEM.addEventListener("change", () => this.#describe());
    this.#describe();
  }

  #current() {
    return document.documentElement.dataset.theme ?? (SYSTEM.matches ? "dark" : "light");
  }

  #toggle() {
    const chosen = this.#current() === "dark" ? "light" : "dark";
    // What the system wants anyway is not kept: the page follows the system again.
    if (chosen === (SYSTEM.matches ? "dark" : "light")) {
      delete document.documentElement.dataset.theme;
      removeStored("theme");
    } else {
      document.documentElement.dataset.theme = chosen;
      writeStored("theme", chosen);
    }
    this.#describe();
  }

  #describe() {
    const other = this.#current() === "dark" ? "light" : "dark";
    this.#button.setAttribute("aria-label", `Switch to the ${other} theme`);
    this.#button.title = `Switch to the ${other} theme`;
  }
}
