// Files of a message. An image is fetched through the API with the caller's identity, and shown from memory.

import { useEffect, useState } from 'preact/hooks'
import type { AttachmentRef } from '../../../client'
import { Icon } from '../../bits'
import { useAction, useParley } from '../../context'

const SHOWN = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp'])

export function AttachmentList({ attachments }: { attachments: readonly AttachmentRef[] }) {
  if (attachments.length === 0) return null
  return (
    <ul class="attachments" aria-label="Attachments">
      {attachments.map((file) => (
        <li key={file.id}>
          <Attachment file={file} />
        </li>
      ))}
    </ul>
  )
}

function Attachment({ file }: { file: AttachmentRef }) {
  const { api } = useParley()
  const act = useAction()
  const isPicture = SHOWN.has(file.media_type)
  const [url, setUrl] = useState<string | null>(null)
  const path = `/attachments/${encodeURIComponent(file.id)}/content`
  useEffect(() => {
    if (!isPicture) return undefined
    let made: string | null = null
    let isGone = false
    api.blob(path).then(
      (blob) => {
        if (isGone) return
        made = URL.createObjectURL(new Blob([blob], { type: file.media_type }))
        setUrl(made)
      },
      () => undefined, // the name stays, and a download shows the error
    )
    return () => {
      isGone = true
      if (made !== null) URL.revokeObjectURL(made)
    }
  }, [api, path, isPicture, file.media_type])
  const download = (): Promise<boolean> => act(async () => save(await api.blob(path), file.name))
  return (
    <button type="button" class="attachment" onClick={() => void download()} title={`Download ${file.name}`}>
      {url === null ? <Icon name="clip" /> : <img src={url} alt={file.name} />}
      <span>{file.name}</span>
      <small>{size(file.size_bytes)}</small>
    </button>
  )
}

export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob)
  const anchor = document.createElement('a')
  anchor.href = url
  anchor.download = name
  anchor.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(0)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`
}
