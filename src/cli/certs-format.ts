/** A device's certificate in the shape in which its firmware takes it. */
import { X509Certificate, createPrivateKey } from 'node:crypto'

export const FORMATS = ['pem', 'c', 'micropython'] as const
export type Format = (typeof FORMATS)[number]

export interface DeviceFiles {
  readonly name: string
  /** In PEM. */
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export const ENDINGS: Readonly<Record<Format, string>> = {
  pem: '.pem',
  c: '.h',
  micropython: '.py'
}

/** The text of the file. */
export function formatDevice(format: Format, files: DeviceFiles): string {
  switch (format) {
    case 'pem':
      return files.cert + files.key + files.ca
    case 'c':
      return cHeader(files)
    case 'micropython':
      return pythonModule(files)
  }
}

/** PEM with a final 0, as mbedTLS, BearSSL's Arduino classes and WiFiClientSecure take it. */
function cHeader({ name, ca, cert, key }: DeviceFiles): string {
  const text = (id: string, pem: string) => {
    const lines = pem.trimEnd().split('\n')
    return `static const char ${id}[] =\n${lines.map(line => `  "${line}\\n"`).join('\n')};\n`
  }
  const guard = `MOTEMQ_${name.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}_H`
  return [
    `/* ${name}: certificate and SECRET key; keep this file out of version control. */`,
    `#ifndef ${guard}`,
    `#define ${guard}`,
    '',
    text('motemq_ca_cert', ca),
    text('motemq_client_cert', cert),
    text('motemq_client_key', key),
    '#endif',
    ''
  ].join('\n')
}

/** DER, which MicroPython's `ssl` takes on every port. */
function pythonModule({ name, ca, cert, key }: DeviceFiles): string {
  const der = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')
  const keyDer = createPrivateKey(key).export({ type: 'sec1', format: 'der' })
  const value = (id: string, bytes: Uint8Array) => {
    const lines = der(bytes).match(/.{1,72}/g) ?? []
    return `${id} = a2b_base64(\n${lines.map(line => `    "${line}"`).join('\n')}\n)\n`
  }
  return [
    `# ${name}: certificate and SECRET key. umqtt: ssl_params={"key": KEY, "cert": CERT, "cadata": CA}`,
    'try:',
    '    from ubinascii import a2b_base64',
    'except ImportError:',
    '    from binascii import a2b_base64',
    '',
    value('CA', new X509Certificate(ca).raw),
    value('CERT', new X509Certificate(cert).raw),
    value('KEY', keyDer)
  ].join('\n')
}
