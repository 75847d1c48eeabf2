//! Plain tables for people.

/// Prints rows of equal length with aligned columns, the first to the left, the others to the right.
pub fn print(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    print_row(&header.iter().map(ToString::to_string).collect::<Vec<_>>(), &widths);
    println!("{}", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
    for row in rows {
        print_row(row, &widths);
    }
}

fn print_row(cells: &[String], widths: &[usize]) {
    let mut line = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        match index {
            0 => line += &format!("{cell:<width$}"),
            _ => line += &format!("  {cell:>width$}"),
        }
    }
    println!("{}", line.trim_end());
}
