//! Comma-separated values (RFC 4180): quoted fields, either line ending, an optional byte order mark.

/// A table with named columns.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Row>,
}

/// One record and the line it began on, counted from 1.
pub(crate) struct Row {
    pub(crate) line: usize,
    fields: Vec<String>,
}

impl Table {
    /// Parses `text`, whose first record names the columns; empty lines are skipped.
    ///
    /// # Errors
    /// The line of a record with another number of fields, or of a quote that is never closed.
    pub(crate) fn parse(text: &str) -> Result<Self, usize> {
        let mut records = records(text.strip_prefix('\u{feff}').unwrap_or(text))?.into_iter();
        let header = records.next().ok_or(1usize)?.fields;
        let rows: Vec<Row> = records.collect();
        match rows.iter().find(|row| row.fields.len() != header.len()) {
            Some(row) => Err(row.line),
            None => Ok(Self { header, rows }),
        }
    }

    /// The position of the column called `name`.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column.trim() == name)
    }

    /// The records below the header.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Row {
    /// The field in `column`, without surrounding space; empty when there is none.
    pub(crate) fn field(&self, column: usize) -> &str {
        self.fields.get(column).map_or("", |field| field.trim())
    }
}

/// `field` quoted where its content requires it.
pub(crate) fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

fn records(text: &str) -> Result<Vec<Row>, usize> {
    let mut records = Vec::new();
    let mut row = Row { line: 1, fields: Vec::new() };
    let (mut field, mut line, mut quoted_since) = (String::new(), 1, None);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        line += usize::from(c == '\n');
        match (c, quoted_since) {
            ('"', Some(_)) if characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            ('"', Some(_)) => quoted_since = None,
            ('"', None) if field.is_empty() => quoted_since = Some(line),
            (',', None) => row.fields.push(core::mem::take(&mut field)),
            ('\r', None) if characters.peek() == Some(&'\n') => {}
            ('\n', None) => {
                row.fields.push(core::mem::take(&mut field));
                records.push(core::mem::replace(&mut row, Row { line, fields: Vec::new() }));
            }
            _ => field.push(c),
        }
    }
    if let Some(line) = quoted_since {
        return Err(line);
    }
    row.fields.push(field);
    records.push(row);
    records.retain(|row| row.fields.iter().any(|field| !field.is_empty()));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_quotes_line_endings_and_gaps() {
        let text = "\u{feff}file,label\r\n\"a, \"\"b\"\".wav\",x\r\n\r\nc.wav,\"two\nlines\"\nd.wav,y";
        let table = Table::parse(text).unwrap();
        let (file, label) = (table.column("file").unwrap(), table.column("label").unwrap());
        let rows: Vec<_> =
            table.rows().iter().map(|row| (row.line, row.field(file), row.field(label))).collect();
        assert_eq!(rows, [(2, "a, \"b\".wav", "x"), (4, "c.wav", "two\nlines"), (6, "d.wav", "y")]);
        assert!(table.column("group").is_none());
    }

    #[test]
    fn names_the_line_at_fault() {
        assert_eq!(Table::parse("").err(), Some(1));
        assert_eq!(Table::parse("a,b\n1,2\n3\n").err(), Some(3));
        assert_eq!(Table::parse("a,b\n1,\"2\n3,4\n").err(), Some(2));
    }

    #[test]
    fn quoting_round_trips() {
        for field in ["plain", "a,b", "a\"b", "a\nb", "\"", "dog/1-30226-A.wav"] {
            let table = Table::parse(&format!("x,y\n{},1\n", quote(field))).unwrap();
            assert_eq!(table.rows()[0].field(0), field);
        }
    }
}
