//! Tables for spreadsheets, which run what looks like a formula.
//!
//! RFC 4180 by the csv crate. A cell that begins as a formula does (`=`, `+`, `-`, `@`, a tab or a line break) gets an apostrophe in
//! front, as OWASP advises: the sheet then shows it as the text it is. A reader that wants the text takes the apostrophe off.

/// Rows under a header.
pub(crate) struct Table(csv::Writer<Vec<u8>>);

impl Table {
    pub(crate) fn new(header: &[&str]) -> Table {
        let mut table = Table(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()));
        table.row(header);
        table
    }

    /// As many cells as the header has.
    pub(crate) fn row(&mut self, cells: &[&str]) {
        for cell in cells {
            let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
            let written = if formula { self.0.write_field(format!("'{cell}")) } else { self.0.write_field(cell) };
            written.expect("memory takes it");
        }
        self.0.write_record(None::<&[u8]>).expect("every row has the cells of the header");
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        let mut table = Table::new(&["a", "b"]);
        for cell in ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx"] {
            table.row(&[cell, "x"]);
        }
        table.row(&["a-b=c", "say \"hi\", you"]);
        let text = String::from_utf8(table.finish()).unwrap();
        let expected = "a,b\r\n'=1+1,x\r\n'+1,x\r\n'-1,x\r\n'@x,x\r\n'\tx,x\r\n\"'\rx\",x\r\n\"'\nx\",x\r\n\
                        a-b=c,\"say \"\"hi\"\", you\"\r\n";
        assert_eq!(text, expected);
    }
}
