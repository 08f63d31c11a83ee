// Two pictures in one place: a divider between them, or side by side, zoomed and moved together.

const most = 32;
const step = 1.25;

export class Viewer {
  constructor(stage, divider, onZoom) {
    this.stage = stage;
    this.divider = divider;
    this.onZoom = onZoom;
    this.panes = {
      left: stage.querySelector('[data-pane="left"]'),
      right: stage.querySelector('[data-pane="right"]'),
    };
    this.mode = "slider";
    this.split = 50;
    this.size = null; // of the picture, in its own pixels as they are shown
    this.scale = 1;
    this.center = [0, 0];
    this.isFit = true;
    this.pointers = new Map();
    this.#listen();
  }

  // sources: left, right, and what lies over each (null: nothing); resolves when all are there
  async show({ left, right = null, leftOver = null, rightOver = null, width, height, labels }) {
    const ticket = (this.ticket = Symbol("show"));
    const wanted = [left, right, leftOver, rightOver];
    await Promise.all([...new Set(wanted)].filter(Boolean).map(load));
    if (this.ticket !== ticket) return; // something else is to be shown by now
    const isNew = this.size === null || this.size[0] !== width || this.size[1] !== height;
    this.size = [width, height];
    for (const [name, base, over] of [["left", left, leftOver], ["right", right, rightOver]]) {
      const [below, above] = this.panes[name].querySelectorAll("img");
      this.panes[name].hidden = base === null;
      put(below, base, labels[name]);
      put(above, over, "");
    }
    if (isNew) this.isFit = true;
    this.draw();
  }

  clear() {
    this.ticket = null;
    this.size = null;
    for (const image of this.stage.querySelectorAll("img")) put(image, null, "");
    this.draw();
  }

  setMode(mode) {
    this.mode = mode;
    this.draw();
  }

  setSplit(split) {
    this.split = Math.min(100, Math.max(0, split));
    this.draw();
  }

  zoom(factor, place = null) {
    if (this.size === null) return;
    const [width, height] = this.#room();
    const fit = this.#fit();
    const scale = Math.min(most, Math.max(Math.min(fit, 1), this.scale * factor));
    // the pixel under the pointer stays there
    const offset = place ? [place[0] - width / 2, place[1] - height / 2] : [0, 0];
    this.center = this.center.map((value, axis) => value + offset[axis] / this.scale - offset[axis] / scale);
    this.scale = scale;
    this.isFit = Math.abs(scale - fit) < fit * 1e-3;
    this.draw();
  }

  zoomIn() { this.zoom(step); }

  zoomOut() { this.zoom(1 / step); }

  fit() {
    this.isFit = true;
    this.draw();
  }

  move(dx, dy) {
    this.center = [this.center[0] - dx / this.scale, this.center[1] - dy / this.scale];
    this.draw();
  }

  draw() {
    const { stage, divider } = this;
    const isPair = this.mode === "pair";
    stage.classList.toggle("pair", isPair);
    const hasDivider = this.mode === "slider" && this.size !== null;
    divider.hidden = !hasDivider;
    divider.style.left = `${this.split}%`;
    divider.setAttribute("aria-valuenow", Math.round(this.split));
    divider.setAttribute("aria-valuetext", `${Math.round(this.split)} % before, ${Math.round(100 - this.split)} % after`);
    this.panes.right.style.clipPath = hasDivider ? `inset(0 0 0 ${this.split}%)` : "none";
    if (this.size === null) {
      stage.classList.remove("zoomed", "pixels");
      this.onZoom(null);
      return;
    }
    const room = this.#room();
    const fit = this.#fit();
    if (this.isFit) {
      this.scale = fit;
      this.center = this.size.map((side) => side / 2);
    }
    this.center = this.center.map((value, axis) => {
      const half = room[axis] / this.scale / 2;
      const side = this.size[axis];
      return side <= 2 * half ? side / 2 : Math.min(side - half, Math.max(half, value));
    });
    const shift = room.map((side, axis) => side / 2 - this.center[axis] * this.scale);
    for (const pane of Object.values(this.panes)) {
      const world = pane.querySelector(".world");
      world.style.width = `${this.size[0]}px`;
      world.style.height = `${this.size[1]}px`;
      world.style.transform = `translate(${shift[0]}px, ${shift[1]}px) scale(${this.scale})`;
    }
    stage.classList.toggle("zoomed", this.#canMove());
    stage.classList.toggle("pixels", this.scale >= 3);
    this.onZoom(this.scale);
  }

  #room() {
    const pane = this.panes.right.hidden ? this.panes.left : this.panes.right;
    return [Math.max(1, pane.clientWidth), Math.max(1, pane.clientHeight)];
  }

  #fit() {
    const room = this.#room();
    return Math.min(most, room[0] / this.size[0], room[1] / this.size[1]);
  }

  #canMove() {
    const room = this.#room();
    return this.size !== null && this.size.some((side, axis) => side * this.scale > room[axis] + 1);
  }

  #place(event) {
    const box = this.stage.getBoundingClientRect();
    const width = this.#room()[0];
    // in the right half of a pair the picture begins anew
    const x = event.clientX - box.left;
    return [this.mode === "pair" && x > box.width / 2 ? x - (box.width - width) : x, event.clientY - box.top];
  }

  #splitAt(event) {
    const box = this.stage.getBoundingClientRect();
    this.setSplit((100 * (event.clientX - box.left)) / box.width);
  }

  #listen() {
    const { stage, divider } = this;
    new ResizeObserver(() => this.draw()).observe(stage);

    stage.addEventListener("pointerdown", (event) => {
      if (this.size === null || event.button !== 0) return;
      stage.setPointerCapture(event.pointerId);
      const onDivider = event.target === divider || divider.contains(event.target);
      const drags = this.mode === "slider" && (onDivider || !this.#canMove()) ? "divider" : "picture";
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, drags });
      stage.classList.toggle("dragging", drags === "picture");
      if (drags === "divider") {
        divider.focus({ preventScroll: true });
        this.#splitAt(event);
        event.preventDefault();
      }
    });
    stage.addEventListener("pointermove", (event) => {
      const last = this.pointers.get(event.pointerId);
      if (last === undefined) return;
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
      if (others.length > 0) {
        const [other] = others;
        const before = Math.hypot(last.x - other.x, last.y - other.y);
        const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
        const middle = { clientX: (event.clientX + other.x) / 2, clientY: (event.clientY + other.y) / 2 };
        if (before > 0) this.zoom(after / before, this.#place(middle));
      } else if (last.drags === "divider") {
        this.#splitAt(event);
      } else {
        this.move(event.clientX - last.x, event.clientY - last.y);
      }
      last.x = event.clientX;
      last.y = event.clientY;
    });
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => {
        this.pointers.delete(event.pointerId);
        stage.classList.remove("dragging");
      });
    }
    stage.addEventListener("wheel", (event) => {
      // without Ctrl (which pinching on a touchpad sends) the wheel is the page's
      if (!event.ctrlKey || this.size === null) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 200), this.#place(event));
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      if (this.size !== null) this.zoom(2, this.#place(event));
    });
    stage.addEventListener("keydown", (event) => {
      if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
      const far = 60;
      const keys = {
        "+": () => this.zoomIn(),
        "=": () => this.zoomIn(),
        "-": () => this.zoomOut(),
        0: () => this.fit(),
        ArrowLeft: () => this.move(far, 0),
        ArrowRight: () => this.move(-far, 0),
        ArrowUp: () => this.move(0, far),
        ArrowDown: () => this.move(0, -far),
      };
      const isArrow = event.key.startsWith("Arrow");
      if (event.key in keys && (!isArrow || this.#canMove())) {
        event.preventDefault();
        keys[event.key]();
      }
    });
    divider.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
      if (event.key in moves) {
        event.preventDefault();
        this.setSplit(this.split + moves[event.key]);
      }
    });
  }
}

async function load(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
}

function put(image, source, label) {
  image.hidden = source === null;
  image.alt = label;
  if (source === null) image.removeAttribute("src");
  else image.src = source;
}
