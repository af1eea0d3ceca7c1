/** The list of conversations on a narrow screen: slides in over the page, and out again. */

const NARROW = window.matchMedia("(max-width: 760px)");

export class Drawer {
  #drawer;
  #page;
  #button;
  #veil;
  #isOpen = false;

  /** `elements`: {drawer, page, button, veil}; the page cannot be reached while it is open. */
  constructor({ drawer, page, button, veil }) {
    this.#drawer = drawer;
    this.#page = page;
    this.#button = button;
    this.#veil = veil;
    button.addEventListener("click", () => this.#set(true));
    veil.addEventListener("click", () => this.close());
    // Also the conversation that is open already: whoever chose it wants to see it.
    drawer.addEventListener("click", (event) => {
      if (event.target.closest("a") !== null) this.close();
    });
    drawer.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    NARROW.addEventListener("change", () => this.#set(false));
    this.#set(false);
  }

  close() {
    if (this.#isOpen) this.#set(false);
  }

  #set(open) {
    const wasOpen = this.#isOpen;
    this.#isOpen = open && NARROW.matches;
    this.#drawer.inert = NARROW.matches && !this.#isOpen;
    this.#page.inert = this.#isOpen;
    this.#veil.hidden = !this.#isOpen;
    document.documentElement.classList.toggle("drawer-open", this.#isOpen);
    this.#button.setAttribute("aria-expanded", String(this.#isOpen));
    if (this.#isOpen) this.#drawer.querySelector("a, button")?.focus();
    else if (wasOpen) this.#button.focus();
  }
}
