/** One kept connection of a load generator: hand-written HTTP/1.1 over TLS, because a full client would cost more than a server. */
import { connect as tlsConnect, type TLSSocket } from "node:tls"

export interface Answer {
  readonly status: number
  readonly body: string
}

export interface Credentials {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

/** Whoever has no certificate is told apart by the address that it comes from. */
export interface Anonymous {
  readonly ca: string
  readonly localAddress: string
}

const endOfHead = "\r\n\r\n"

/** The first complete answer in `text`, with what follows it. */
function parse(text: string): { readonly answer: Answer; readonly rest: string } | undefined {
  const end = text.indexOf(endOfHead)
  if (end < 0) return undefined
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, end))?.[1] ?? 0)
  const bodyAt = end + endOfHead.length
  const chunked = /\r\ntransfer-encoding: chunked/i.test(text.slice(0, end))
  const bodyEnd = chunked ? text.indexOf("\r\n0\r\n\r\n", bodyAt - 2) + 7 : bodyAt + length
  if (chunked && bodyEnd < bodyAt || bodyEnd > text.length) return undefined
  return {
    answer: { status: Number(text.slice(9, 12)), body: text.slice(bodyAt, bodyEnd) },
    rest: text.slice(bodyEnd)
  }
}

export class Connection {
  readonly #socket: TLSSocket
  #text = ""
  #waiting: { readonly resolve: (answer: Answer) => void; readonly reject: (error: Error) => void } | undefined

  private constructor(socket: TLSSocket) {
    this.#socket = socket
    socket.setEncoding("latin1")
    socket.on("data", (chunk: string) => {
      this.#text += chunk
      const parsed = parse(this.#text)
      if (parsed === undefined) return
      this.#text = parsed.rest
      const waiting = this.#waiting
      this.#waiting = undefined
      waiting?.resolve(parsed.answer)
    })
    const gone = () => {
      this.#waiting?.reject(new Error("the server closed the connection"))
      this.#waiting = undefined
    }
    socket.on("close", gone)
    socket.on("error", gone)
  }

  static open(port: number, as: Credentials | Anonymous): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = tlsConnect({
        host: "127.0.0.1",
        port,
        servername: "localhost",
        ...as,
        minVersion: "TLSv1.3"
      })
      socket.setNoDelay(true)
      socket.once("error", reject)
      socket.once("secureConnect", () => {
        socket.off("error", reject)
        resolve(new Connection(socket))
      })
    })
  }

  /** One request at a time. */
  send(method: "GET" | "POST", path: string, body = ""): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#socket.write(
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nX-Nixfleet-Protocol: 1\r\n` +
          "X-Nixfleet-Capabilities: verdicts,journal,attempts\r\n" +
          `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
      )
    })
  }

  close(): void {
    this.#socket.destroy()
  }
}
