// The connection to the gateway: comes back by itself, sooner after a good time, later after failures.

const SILENT_MS = 6000; // nothing at all for so long: connect anew

export class Link {
  constructor(world, panel) {
    Object.assign(this, { world, panel, socket: null, pause: 500, timer: 0, heard: 0 });
    setInterval(() => this.#watch(), 1000);
    addEventListener("online", () => this.#retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.#retryNow());
  }

  open(island) {
    this.island = island;
    this.world.clear();
    this.world.nodes = [];
    this.#connect("connecting", "Connecting");
  }

  #connect(state, words) {
    clearTimeout(this.timer);
    this.socket?.close();
    this.panel.setLink(state, words);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/map?island=${this.island}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = performance.now();
    socket.onmessage = ({ data }) => this.socket === socket && this.#take(data);
    socket.onclose = () => this.socket === socket && this.#lost();
  }

  #take(data) {
    this.heard = performance.now();
    try {
      if (typeof data !== "string") return this.world.frame(new Uint8Array(data));
      const message = JSON.parse(data);
      this.world.tell(message);
      if (message.type === "nodes") (this.panel.setNodes(message.nodes), this.panel.setWaiting(message.waiting ?? 0));
      if (message.type === "reset") (this.panel.setLink("live", "Live"), (this.pause = 500));
    } catch (error) {
      console.error("the feed makes no sense", error);
      this.socket.close();
    }
  }

  #lost() {
    this.socket = null;
    this.panel.setLink("lost", "Reconnecting");
    this.timer = setTimeout(() => this.#connect("lost", "Reconnecting"), this.pause * (0.7 + 0.6 * Math.random()));
    this.pause = Math.min(this.pause * 2, 8000);
  }

  #watch() {
    const open = this.socket?.readyState === WebSocket.OPEN;
    if (open && (performance.now() - this.heard > SILENT_MS || this.world.stuck())) this.#connect("lost", "Reconnecting");
  }

  #retryNow() {
    if (this.socket === null && this.island !== undefined) this.#connect("lost", "Reconnecting");
  }
}
