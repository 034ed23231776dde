"""How alike, how true to the text, how good: measures as functions of features, the networks behind them, reports."""
