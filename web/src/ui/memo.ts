import { Component, h, type ComponentChildren, type ComponentType } from 'preact'

/** A component that renders again only when one of its properties (by default: any) is another value. */
export function memo<P extends object>(inner: ComponentType<P>, watched?: readonly (keyof P & string)[]): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const before = this.props as Record<string, unknown>
      const after = next as Record<string, unknown>
      const names = watched ?? Object.keys(after)
      return (watched === undefined && names.length !== Object.keys(before).length) || names.some((name) => before[name] !== after[name])
    }

    override render(): ComponentChildren {
      return h(inner, this.props as P)
    }
  }
}
