/** The e-mails that are sent, with what their templates need. Tokens are secrets: they stand sealed in the queue. */
export type MailContent =
  | {
      template: 'invitation';
      data: {
        tenantName: string;
        inviter: string;
        roles: string[];
        message: string | null;
        token: string;
        /** ISO 8601. */
        expiresAt: string;
      };
    }
  /** To somebody who was added to a tenant; `token` lets a new account choose its password. */
  | { template: 'welcome'; data: { tenantName: string; roles: string[]; token: string | null } }
  /** To somebody who was given an account, and no tenant yet. */
  | { template: 'account-created'; data: { token: string | null } }
  | { template: 'password-reset'; data: { token: string; expiresAt: string } }
  | { template: 'password-changed'; data: Record<string, never> }
  /** To a tenant's administrators; `destination` is the server of the webhook's address. */
  | {
      template: 'webhook-disabled';
      data: { tenantName: string; destination: string; reason: 'gone' | 'failing' };
    }
  /** Something that a tenant watches has happened, or is over. */
  | {
      template: 'alert';
      data: {
        tenantName: string;
        title: string;
        paragraphs: string[];
        /** ISO 8601. */
        at: string;
      };
    };

export type Mail = MailContent & {
  to: string;
  /** Of whoever receives it: `language` of the account, where there is one. */
  language?: string;
  /** Whose branding it bears, and whose job it is; null: the installation's. */
  tenantId: string | null;
};
